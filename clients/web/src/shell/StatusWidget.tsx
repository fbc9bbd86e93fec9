import { ActionIcon, Button } from "@mantine/core";
import type { EventRecord } from "@tcmanager/client";
import { Icon } from "../components/icon/Icon";
import { formatMoment, formatTime } from "../format/duration";
import { useClient, useSnapshot } from "../live/client";
import { testids } from "../testids";
import styles from "./Connection.module.css";
import { useConnectionLook } from "./ConnectionIndicator";
import { carrierWord } from "./connection";

/** The floating widget: how the connection is, what arrived last, and a way to reconnect by hand. */
export function StatusWidget({ onClose }: { readonly onClose: () => void }) {
  const { connection } = useClient();
  const { lastEvents, serverVersion, rttMs, unsaved, carrier } = useSnapshot(connection);
  const look = useConnectionLook();
  return (
    <section className={styles.widget} data-testid={testids.statusWidget} aria-label="Connection status">
      <header className={styles.head}>
        <h2>Connection</h2>
        <ActionIcon
          className={styles.close ?? ""}
          variant="subtle"
          color="gray"
          aria-label="Close"
          onClick={onClose}
        >
          <Icon name="close" />
        </ActionIcon>
      </header>
      <div className={styles.status}>
        <p role="status">
          <b>{look.next === "" ? look.word : look.brief}.</b> {look.detail}
        </p>
        {look.next !== "" && <p className={styles.next}>{look.next}</p>}
        <div className={styles.facts}>
          <span>
            Round trip <b>{rttMs === undefined ? "–" : `${Math.round(rttMs)} ms`}</b>
          </span>
          <span>
            Over <b>{carrierWord(carrier)}</b>
          </span>
          <span>
            Unsaved <b>{unsaved}</b>
          </span>
          <span>
            Server <b>{serverVersion === "" ? "–" : serverVersion}</b>
          </span>
        </div>
        <div>
          <Button variant="default" data-testid={testids.reconnect} onClick={() => connection.reconnect()}>
            Reconnect now
          </Button>
        </div>
      </div>
      <EventList records={lastEvents} />
    </section>
  );
}

function EventList({ records }: { readonly records: readonly EventRecord[] }) {
  if (records.length === 0)
    return <p className={styles.none}>No events yet. The last 20 will be listed here.</p>;
  return (
    // biome-ignore lint/a11y/noNoninteractiveTabindex: a list that scrolls must be reachable to be scrolled by keyboard
    <ol className={styles.events} aria-label="Last events" tabIndex={0}>
      {records.map((record, index) => (
        // biome-ignore lint/suspicious/noArrayIndexKey: events of no offset have no other name; the list is short and plain
        <li key={index} data-testid={testids.statusEvent} data-kind={record.kind}>
          <time dateTime={new Date(record.timeMs).toISOString()} title={formatMoment(record.timeMs)}>
            {formatTime(record.timeMs)}
          </time>
          <span>{lineOf(record)}</span>
        </li>
      ))}
    </ol>
  );
}

/** What people did reads as a sentence only with who did it. */
function lineOf({ kind, actor, text }: EventRecord): string {
  const isDeed = kind === "collaboration" || kind === "notificationsRead";
  return isDeed && actor !== "" && !text.startsWith(actor) ? `${actor} ${text}` : text;
}
