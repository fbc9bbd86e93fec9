import { createTheme, type MantineColorsTuple } from "@mantine/core";

const accent: MantineColorsTuple = [
  "#edf2ff",
  "#dbe6ff",
  "#b9ccff",
  "#92afff",
  "#6f94f9",
  "#4f7bf0",
  "#2b59dc",
  "#2752d0",
  "#1f44b0",
  "#193892",
];

/** Mantine's primitives in our own clothes: the tokens of tokens.css decide, this only hands them on. */
export const theme = createTheme({
  primaryColor: "accent",
  primaryShade: 6,
  colors: { accent },
  fontFamily: "var(--sans)",
  fontFamilyMonospace: "var(--mono)",
  fontSizes: { xs: "0.75rem", sm: "0.8125rem", md: "0.875rem", lg: "1rem", xl: "1.25rem" },
  defaultRadius: 6,
  cursorType: "pointer",
  focusRing: "auto",
  respectReducedMotion: true,
  components: {
    Button: { defaultProps: { size: "xs" } },
    TextInput: { defaultProps: { size: "sm" } },
    Textarea: { defaultProps: { size: "sm" } },
    NativeSelect: { defaultProps: { size: "sm" } },
    PasswordInput: { defaultProps: { size: "sm" } },
    Tooltip: { defaultProps: { openDelay: 350, fz: "xs", withArrow: false } },
    Popover: { defaultProps: { shadow: "md", radius: 8, transitionProps: { duration: 120 } } },
    Menu: { defaultProps: { shadow: "md", radius: 8, transitionProps: { duration: 120 } } },
  },
});
