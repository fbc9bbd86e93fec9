import { Tooltip } from "@mantine/core";
import { useSyncExternalStore } from "react";
import { Icon } from "../components/icon/Icon";
import { useClient, useConnection, useSnapshot } from "../live/client";
import { testids } from "../testids";
import styles from "./Connection.module.css";
import { type ConnectionLook, lookOfConnection } from "./connection";

/** useConnectionLook is how the connection is shown, with the seconds to the next try counted down. */
export function useConnectionLook(): ConnectionLook {
  const { connection } = useClient();
  const counting = useConnection((snapshot) => snapshot.retryAtMs !== undefined);
  const now = useSyncExternalStore(counting ? eachSecond : never, () => Math.floor(Date.now() / 1000) * 1000);
  return lookOfConnection(useSnapshot(connection), now);
}

function eachSecond(listener: () => void): () => void {
  const timer = setInterval(listener, 1000);
  return () => clearInterval(timer);
}

function never(): () => void {
  return () => {};
}

const levels = { good: 3, fair: 2, poor: 1 } as const;

/** The state of the connection, always in sight. A click opens the widget with all there is to know. */
export function ConnectionIndicator({
  open,
  onToggle,
}: {
  readonly open: boolean;
  readonly onToggle: () => void;
}) {
  const look = useConnectionLook();
  const quality = useConnection((snapshot) => snapshot.quality);
  const unsaved = useConnection((snapshot) => snapshot.unsaved);
  const carrier = useConnection((snapshot) => snapshot.carrier);
  const away = look.state === "offline" || look.state === "closed";
  return (
    <Tooltip label={look.detail} multiline maw={280} disabled={open}>
      <button
        type="button"
        className={styles.indicator}
        data-testid={testids.connection}
        data-state={look.state}
        data-quality={quality}
        data-carrier={carrier}
        aria-expanded={open}
        onClick={onToggle}
      >
        <span className="visually-hidden">Connection: </span>
        {away ? (
          <Icon name="offline" size={14} />
        ) : (
          <span
            className={styles.bars}
            data-level={look.state === "live" ? levels[quality ?? "good"] : 0}
            aria-hidden="true"
          >
            <i />
            <i />
            <i />
          </span>
        )}
        <span className={styles.word} data-quiet={look.word === "Live"}>
          <Word look={look} />
          {unsaved > 0 && look.state !== "live" && ` · ${unsaved} unsaved`}
        </span>
      </button>
    </Tooltip>
  );
}

/** The state in one word, or in a longer one where there is room. */
function Word({ look: { word, brief } }: { readonly look: ConnectionLook }) {
  if (word === brief) return word;
  return (
    <>
      <span className={styles.long}>{word}</span>
      <span className={styles.brief}>{brief}</span>
    </>
  );
}
