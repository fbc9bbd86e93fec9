import type { CSSProperties } from "react";
import { type Color, plain, type Span, type Style } from "./ansi";

/** The spans of a line. Text goes in as text and colours as numbers: what a test prints can't become markup. */
export function AnsiLine({ spans }: { readonly spans: readonly Span[] }) {
  return spans.map((span, index) =>
    span.style === plain ? (
      span.text
    ) : (
      // biome-ignore lint/suspicious/noArrayIndexKey: spans have no other name, and hold no state
      <span key={index} style={cssOf(span.style)}>
        {span.text}
      </span>
    ),
  );
}

function cssOf(style: Style): CSSProperties {
  const fg = style.inverse ? (style.bg ?? "surface") : style.fg;
  const bg = style.inverse ? (style.fg ?? "text") : style.bg;
  const lines = [style.underline && "underline", style.strike && "line-through"].filter(
    (line) => line !== false,
  );
  return {
    ...(fg === undefined ? {} : { color: cssColor(fg) }),
    ...(bg === undefined ? {} : { backgroundColor: cssColor(bg) }),
    ...(style.bold ? { fontWeight: 700 } : {}),
    ...(style.dim ? { opacity: 0.7 } : {}),
    ...(style.italic ? { fontStyle: "italic" } : {}),
    ...(lines.length === 0 ? {} : { textDecoration: lines.join(" ") }),
  };
}

function cssColor(color: Color | "surface" | "text"): string {
  if (color === "surface") return "var(--sunken)";
  if (color === "text") return "var(--text)";
  return color.kind === "named" ? `var(--ansi-${color.index})` : `rgb(${color.r} ${color.g} ${color.b})`;
}
