import { configDefaults, defineConfig } from "vitest/config";

const withServer = process.env.TEST_DATABASE_URL !== undefined;

export default defineConfig({
  test: {
    include: ["test/**/*.test.ts"],
    // What only a PostgreSQL server can show.
    exclude: [...configDefaults.exclude, ...(withServer ? [] : ["test/**/*.postgres.test.ts"])],
    // Two engines with a WebAssembly database each: more workers than cores only make every test slower.
    maxWorkers: 2,
    testTimeout: 60_000,
    hookTimeout: 60_000,
  },
});
