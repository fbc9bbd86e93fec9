import { fileURLToPath } from "node:url";
import { defineConfig } from "vitest/config";

// Measures a big run; not a part of `make test`: npm run volume.
export default defineConfig({
  root: fileURLToPath(new URL("../..", import.meta.url)),
  test: {
    environment: "node",
    include: ["e2e/volume.ts"],
    testTimeout: 900_000,
    hookTimeout: 300_000,
    disableConsoleIntercept: true,
  },
});
