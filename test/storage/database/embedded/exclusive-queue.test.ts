import { describe, expect, it } from "vitest";
import { ExclusiveQueue } from "../../../../src/storage/database/embedded/exclusive-queue.ts";

describe("an exclusive queue", () => {
  it("lets one in at a time, in the order of asking", async () => {
    const queue = new ExclusiveQueue();
    const order: number[] = [];
    const turn = async (n: number) => {
      const release = await queue.acquire();
      order.push(n);
      await Promise.resolve();
      order.push(n);
      release();
    };
    await Promise.all([turn(1), turn(2), turn(3)]);
    expect(order).toEqual([1, 1, 2, 2, 3, 3]);
  });

  it("forgets who leaves", async () => {
    const queue = new ExclusiveQueue();
    const release = await queue.acquire();
    const controller = new AbortController();
    const reason = new Error("left");
    const leaving = queue.acquire(controller.signal);
    const staying = queue.acquire();
    controller.abort(reason);
    await expect(leaving).rejects.toBe(reason);
    expect(queue.waiting).toBe(1);
    release();
    (await staying)();
    (await queue.acquire())();
  });

  it("is not released twice by one holder", async () => {
    const queue = new ExclusiveQueue();
    const first = await queue.acquire();
    const second = queue.acquire();
    const third = queue.acquire();
    first();
    first();
    await second;
    expect(queue.waiting).toBe(1);
    (await second)();
    (await third)();
  });
});
