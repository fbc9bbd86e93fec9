import { fileURLToPath } from "node:url";
import { defineConfig } from "vitest/config";

// The tests in a real browser: two files at a time, since each starts a browser
// and a server, and mostly waits for what is to be noticed in some seconds. The
// times are limits for what is broken, not expectations.
export default defineConfig({
  root: fileURLToPath(new URL("..", import.meta.url)),
  test: {
    environment: "node",
    include: ["e2e/**/*.test.ts"],
    maxWorkers: 2,
    testTimeout: 150_000,
    hookTimeout: 90_000,
    teardownTimeout: 30_000,
  },
});
