import { ResultFlag } from "@tcmanager/gen/tcmanager/v1/execution_pb";
import { cx } from "../components/cx";
import styles from "./Badges.module.css";

interface Remark {
  readonly word: string;
  readonly title: string;
  readonly kind: "plain" | "warn" | "fail";
}

function remarkOf(flag: ResultFlag): Remark | undefined {
  switch (flag) {
    case ResultFlag.FLAKY:
      return { word: "flaky", title: "An earlier attempt failed and this one passed", kind: "warn" };
    case ResultFlag.PANIC:
      return { word: "panic", title: "The process panicked while it ran", kind: "fail" };
    case ResultFlag.RACE:
      return { word: "race", title: "A data race was reported while it ran", kind: "fail" };
    case ResultFlag.SYNTHETIC_END:
      return {
        word: "synthetic",
        title: "The runner never said that this ended; the end was inferred",
        kind: "warn",
      };
    case ResultFlag.CACHED:
      return { word: "cached", title: "The result came from a cache; nothing ran", kind: "plain" };
    case ResultFlag.OUTPUT_TRUNCATED:
      return { word: "output cut", title: "Its output was cut to the size limit", kind: "plain" };
    default:
      return undefined;
  }
}

/** Remarks on a result, as words. */
export function Badges({ flags }: { readonly flags: readonly ResultFlag[] }) {
  return flags.map((flag) => {
    const remark = remarkOf(flag);
    if (remark === undefined) return null;
    const kind = remark.kind === "plain" ? undefined : styles[remark.kind];
    return (
      <span key={flag} className={cx(styles.badge, kind)} title={remark.title}>
        {remark.word}
      </span>
    );
  });
}
