import { fileURLToPath } from "node:url";
import { defineConfig } from "vitest/config";

// Measures the page under a burst; not a part of `make test`: make bench-page.
export default defineConfig({
  root: fileURLToPath(new URL("../..", import.meta.url)),
  test: {
    environment: "node",
    include: ["e2e/bench/page.ts"],
    testTimeout: 600_000,
    hookTimeout: 120_000,
    disableConsoleIntercept: true,
  },
});
