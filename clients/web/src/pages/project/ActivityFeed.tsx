import type { Event } from "@tcmanager/gen/tcmanager/v1/event_pb";
import { Empty } from "../../components/State";
import { formatAgo, formatMoment } from "../../format/duration";
import { msOf } from "../../format/timestamp";
import { describe, type Sentence } from "../../live/describe";
import { useNow } from "../../live/now";
import { Avatar } from "../../people/Presence";
import { Link } from "../../router/Link";
import { StatusIcon } from "../../status/StatusIcon";
import { testids } from "../../testids";
import styles from "./Project.module.css";

/** What happened lately, newest first. */
export function ActivityFeed({ events }: { readonly events: readonly Event[] }) {
  const now = useNow(5_000);
  const lines = events.flatMap((event) => {
    const sentence = describe(event);
    return sentence === undefined ? [] : [{ event, sentence }];
  });
  if (lines.length === 0) {
    return (
      <Empty icon="clock" title="Nothing has happened yet" compact>
        Runs, edits and comments appear here as they happen.
      </Empty>
    );
  }
  return (
    // biome-ignore lint/a11y/noNoninteractiveTabindex: a list that scrolls must be reachable to be scrolled by keyboard
    <ol className={styles.feed} aria-label="Activity" tabIndex={0}>
      {lines.map(({ event, sentence }) => (
        <li
          key={`${event.epoch}:${event.offset}`}
          data-testid={testids.activityItem}
          data-kind={event.payload.case}
        >
          <Sign sentence={sentence} />
          <Words sentence={sentence} />
          <Ago atMs={msOf(event.time)} nowMs={now} />
        </li>
      ))}
    </ol>
  );
}

function Sign({ sentence }: { readonly sentence: Sentence }) {
  return (
    <span className={styles.sign}>
      {sentence.tone === undefined ? (
        <Avatar userId={sentence.actorId} name={sentence.actor} small />
      ) : (
        <StatusIcon tone={sentence.tone} size={15} />
      )}
    </span>
  );
}

function Words({ sentence: { actor, text, subject, tone } }: { readonly sentence: Sentence }) {
  const object =
    subject === undefined ? null : subject.href === undefined ? (
      <b>{subject.label}</b>
    ) : (
      <Link href={subject.href}>{subject.label}</Link>
    );
  // What a run or a test did begins with it; what a person did begins with the person.
  if (tone !== undefined) {
    return (
      <p>
        {object} {text}
        {actor !== "" && ` by ${actor}`}
      </p>
    );
  }
  return (
    <p>
      {actor !== "" && <b>{actor}</b>} {text} {object}
    </p>
  );
}

function Ago({ atMs, nowMs }: { readonly atMs: number | undefined; readonly nowMs: number }) {
  if (atMs === undefined) return null;
  return (
    <time dateTime={new Date(atMs).toISOString()} title={formatMoment(atMs)}>
      {formatAgo(atMs, nowMs)}
    </time>
  );
}
