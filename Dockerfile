# Builds the image of the server from a checkout: docker build -t memory-service .
FROM node:24.21.0-bookworm-slim AS build
WORKDIR /app
COPY package.json package-lock.json .npmrc ./
COPY gen/package.json gen/
COPY tools/node-runtime/package.json tools/node-runtime/
RUN npm ci
COPY tsconfig.json tsconfig.build.json LICENSE ./
COPY gen gen
COPY src src
RUN npm run client:build && npm run build
RUN npm prune --omit=dev --omit=optional

FROM node:24.21.0-bookworm-slim
# Limits V8's young generation to 32 MiB instead of 128: most of the rest would be garbage that is not collected yet.
ENV NODE_ENV=production NODE_OPTIONS=--max-semi-space-size=16
WORKDIR /app
COPY --from=build /app/package.json ./
COPY --from=build /app/node_modules node_modules
# node_modules links to gen, which contains the compiled client here instead of its sources.
COPY --from=build /app/gen/dist gen
COPY --from=build /app/dist dist
COPY proto/memoryservice proto/memoryservice
COPY sql sql
COPY LICENSE ./
# The data directory of the embedded engine, used if no PostgreSQL is configured.
RUN mkdir -m 700 /data && chown node:node /data
VOLUME /data
USER node
# Nothing outside a container can reach its loopback, so the server listens on all addresses, and publishing the port
# controls who can reach it. The server refuses to start this way without API keys, tokens or client certificates, unless
# you set MEMORY_ALLOW_UNAUTHENTICATED=true.
ENV MEMORY_HOST=0.0.0.0 MEMORY_DATA_DIR=/data
EXPOSE 50051
HEALTHCHECK --interval=10s --timeout=10s --start-period=30s CMD ["node", "dist/main.js", "healthcheck"]
ENTRYPOINT ["node", "dist/main.js"]
CMD ["serve"]
