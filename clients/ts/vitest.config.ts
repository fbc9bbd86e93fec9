import { defineConfig } from "vitest/config";

export default defineConfig({
  resolve: { dedupe: ["@bufbuild/protobuf", "@connectrpc/connect"] },
  test: {
    environment: "node",
    include: ["src/**/*.test.ts"],
    // A busy machine is slow, not wrong.
    testTimeout: 30_000,
    expect: { poll: { timeout: 20_000, interval: 5 } },
  },
});
