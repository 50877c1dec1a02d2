# Builds the server from a checkout: docker build -t memory-service .
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
# Young objects may take 32 MiB and not 128: most of what the server holds otherwise is garbage it has not looked at.
ENV NODE_ENV=production NODE_OPTIONS=--max-semi-space-size=16
WORKDIR /app
COPY --from=build /app/package.json ./
COPY --from=build /app/node_modules node_modules
# node_modules links to gen, which holds the compiled client here instead of its sources.
COPY --from=build /app/gen/dist gen
COPY --from=build /app/dist dist
COPY proto/memoryservice proto/memoryservice
COPY sql sql
COPY LICENSE ./
# Where the embedded engine keeps its data when no PostgreSQL is configured.
RUN mkdir -m 700 /data && chown node:node /data
VOLUME /data
USER node
# In a container, loopback reaches nobody: who may reach the port is decided by how it is published. The server refuses
# to listen here until API keys are given out, or MEMORY_ALLOW_UNAUTHENTICATED=true says that this was considered.
ENV MEMORY_HOST=0.0.0.0 MEMORY_DATA_DIR=/data
EXPOSE 50051
HEALTHCHECK --interval=10s --timeout=10s --start-period=30s CMD ["node", "dist/main.js", "healthcheck"]
ENTRYPOINT ["node", "dist/main.js"]
CMD ["serve"]
