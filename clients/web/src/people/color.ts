/** How many colours people are told apart by; they are --person-0 and up in people.css. */
const colors = 8;

/** personColor is a person's colour, the same on every screen. */
export function personColor(userId: string): string {
  let hash = 2166136261;
  for (let at = 0; at < userId.length; at++) hash = Math.imul(hash ^ userId.charCodeAt(at), 16777619);
  return `var(--person-${(hash >>> 0) % colors})`;
}

/** initials are one or two letters for a name: "Demo Manager" is "DM". */
export function initials(name: string): string {
  const words = name.split(/[^\p{L}\p{N}]+/u).filter(Boolean);
  const [first, second] = words.length > 1 ? [words[0], words.at(-1)] : [words[0], undefined];
  const letters = [first, second].map((word) => (word === undefined ? "" : [...word][0])).join("");
  return letters === "" ? "?" : letters.toUpperCase();
}
