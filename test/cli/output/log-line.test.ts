import { Writable } from "node:stream";
import { pino } from "pino";
import { expect, test } from "vitest";
import { createLineFormatter } from "../../../src/cli/output/log-line.ts";

function formatted(colours: boolean, write: (logger: ReturnType<typeof pino>) => void): string {
  const format = createLineFormatter({ colours });
  let text = "";
  const stream = new Writable({
    write(line: Buffer, _, done) {
      text += format(line.toString());
      done();
    },
  });
  write(pino({ base: null, level: "debug", timestamp: () => ',"time":1795379149491' }, stream));
  return text;
}

test("a readable line has time, level, sentence and fields", () => {
  const text = formatted(false, (logger) => {
    logger.info({ url: "http://127.0.0.1:50051", model: "a b", ms: 1.5 }, "serving");
    logger.debug({}, "quiet");
  });
  expect(text).toBe(
    '20:25:49.491 info  serving url=http://127.0.0.1:50051 model="a b" ms=1.5\n20:25:49.491 debug quiet\n',
  );
});

test("the stack of an error follows on separate lines", () => {
  const lines = formatted(false, (logger) => logger.error({ err: new Error("away") }, "lost")).split("\n");
  expect(lines[0]).toBe("20:25:49.491 error lost");
  expect(lines[1]).toBe("    Error: away");
  expect(lines[2]).toMatch(/^ {8}at /);
});

test("colours levels if colours are on", () => {
  expect(formatted(true, (logger) => logger.warn({}, "careful"))).toContain(
    "\u001b[33mwarn \u001b[0m careful",
  );
});
