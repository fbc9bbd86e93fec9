import { useReducer } from "react";

/** useTick gives a function that renders the component again, for state that is kept outside React. */
export function useTick(): () => void {
  const [, tick] = useReducer((count: number) => count + 1, 0);
  return tick;
}
