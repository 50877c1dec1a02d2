import { configDefaults, defineConfig } from "vitest/config";

const withServer = process.env.TEST_DATABASE_URL !== undefined;
/** What a server alone can show needs one. */
const exclude = [...configDefaults.exclude, ...(withServer ? [] : ["test/**/*.postgres.test.ts"])];

/** These leave nothing behind in their process, and most of them open a database: one for all saves a fifth of their time. */
const inSharedProcesses = "test/{memory,rpc,server,storage}/**/*.test.ts";

export default defineConfig({
  test: {
    projects: [
      { extends: true, test: { name: "shared", include: [inSharedProcesses], exclude, isolate: false } },
      {
        extends: true,
        test: {
          name: "isolated",
          include: ["{test,qa}/**/*.test.ts"],
          exclude: [...exclude, inSharedProcesses],
        },
      },
    ],
    // Two engines with a WebAssembly database each: more workers than cores only make every test slower.
    maxWorkers: 2,
    testTimeout: 60_000,
    hookTimeout: 60_000,
  },
});
