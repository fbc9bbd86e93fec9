import { defineConfig } from "vitest/config";

export default defineConfig({
  resolve: { dedupe: ["@bufbuild/protobuf", "@connectrpc/connect"] },
  test: { environment: "node", include: ["bench/**/*.bench.ts"], execArgv: ["--expose-gc"] },
});
