import { localStorageColorSchemeManager } from "@mantine/core";

/** Where the reader's choice of light or dark is kept; public/scheme.js reads it before the first paint. */
export const colorSchemeManager = localStorageColorSchemeManager({ key: "tcm.color-scheme" });
