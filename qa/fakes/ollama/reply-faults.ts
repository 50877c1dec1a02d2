import type { Fault } from "./faults.ts";
import { jsonReply, type Reply, textReply } from "./reply.ts";

const busyText = "server busy, please try again.  maximum pending requests exceeded";
const page =
  "<!doctype html><html><head><title>502 Bad Gateway</title></head><body>bad gateway</body></html>";
const json = "application/json; charset=utf-8";

/** Returns the response that a fault sends instead of the server's own, or undefined to keep it. */
export function replyOfFault(fault: Fault | undefined, path: string): Reply | undefined {
  switch (fault?.kind) {
    case "busy":
      return jsonReply({ error: busyText }, 503);
    case "serverError": {
      const text = fault.text ?? "llama-server process has terminated: signal: killed";
      return jsonReply({ error: text }, fault.status ?? 500);
    }
    case "nan400":
      return jsonReply({ error: "embedding contains NaN or Inf values" }, 400);
    case "garbage":
      return garbage(fault.form);
    case "wrongType":
      return fault.form === "proxy"
        ? textReply(502, page, "text/html")
        : textReply(200, "embeddings follow", "text/plain; charset=utf-8");
    case "redirect":
      return {
        ...textReply(307, ""),
        headers: { Location: fault.location ?? `http://elsewhere.invalid${path}` },
      };
    default:
      return undefined;
  }
}

function garbage(form: Extract<Fault, { kind: "garbage" }>["form"]): Reply {
  switch (form) {
    case "html":
      return textReply(200, page, "text/html");
    case "empty":
      return textReply(200, "", json);
    case "truncated":
      return textReply(200, '{"model":"x","embeddings":[[0.1,', json);
    case "nanLiteral":
      return textReply(200, '{"model":"x","embeddings":[[NaN,0.1]]}', json);
    case "huge":
      return { status: 200, type: json, body: Buffer.alloc(10_000_000, "a") };
    case "errorInOk":
      return jsonReply({ error: "x" });
  }
}
