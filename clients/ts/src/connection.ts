/**
 * The names of a connection's states. "suspended" means that the browser says
 * there is no network: it goes on by itself when there is one. "closed" is
 * final: nothing is tried again until reconnect().
 */
export type ConnectionStateName =
  | "idle"
  | "connecting"
  | "catching-up"
  | "live"
  | "reconnecting"
  | "suspended"
  | "closed";
