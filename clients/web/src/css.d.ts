import "react";

declare module "react" {
  // Custom properties in style attributes: the way values reach a style sheet.
  interface CSSProperties {
    [property: `--${string}`]: string | number | undefined;
  }
}
