import react from "@vitejs/plugin-react";
import { defineConfig } from "vite";

// The generated code and the client are workspaces beside this one: without
// dedupe each could bring its own copy of a package whose identity matters
// (React's hooks, protobuf's registry).
export default defineConfig({
  plugins: [react()],
  resolve: { dedupe: ["react", "react-dom", "@bufbuild/protobuf", "@connectrpc/connect"] },
  build: {
    outDir: "dist",
    emptyOutDir: true,
    // light-dark() and nesting are used as they are; these are the first
    // versions that know both.
    target: ["chrome123", "edge123", "firefox120", "safari17.5"],
    // A data: URL in a style sheet is fine; one in a script is refused by the policy.
    assetsInlineLimit: 0,
    chunkSizeWarningLimit: 800,
    rollupOptions: {
      output: {
        // Libraries change seldom: apart from the pages they stay in the
        // browser's cache over a release.
        manualChunks: (id: string) => (id.includes("/node_modules/") ? "vendor" : undefined),
      },
    },
  },
  server: {
    proxy: {
      "^/tcmanager\\.v1\\..*": { target: "http://127.0.0.1:8080", ws: true },
    },
  },
});
