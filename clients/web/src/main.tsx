import "./theme/primitives";
import "./theme/tokens.css";
import "./theme/mantine.css";
import "./people/people.css";
import { MantineProvider } from "@mantine/core";
import { createRoot } from "react-dom/client";
import { App } from "./app/App";
import { colorSchemeManager } from "./theme/scheme";
import { theme } from "./theme/theme";

const root = document.getElementById("root");
if (root === null) throw new Error("index.html has no #root");
// Without StrictMode: see useRoom.
createRoot(root).render(
  <MantineProvider theme={theme} defaultColorScheme="auto" colorSchemeManager={colorSchemeManager}>
    <App />
  </MantineProvider>,
);
