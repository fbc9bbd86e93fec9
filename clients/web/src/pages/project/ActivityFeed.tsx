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

interface ActivityFeedProps {
  /** Newest first. */
  readonly events: readonly Event[];
  /** The path of the page, if all of them are about it: it need not be said of each. */
  readonly about?: string;
}

/** What happened lately, newest first. */
export function ActivityFeed({ events, about }: ActivityFeedProps) {
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
          <Words sentence={sentence} about={about} />
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

interface WordsProps {
  readonly sentence: Sentence;
  readonly about: string | undefined;
}

function Words({ sentence: { actor, text, joint, subject, tone }, about }: WordsProps) {
  const object = subject === undefined || subject.href === about ? null : <Subject subject={subject} />;
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
      {actor !== "" && <b>{actor}</b>} {text} {object !== null && joint} {object}
    </p>
  );
}

function Subject({ subject: { label, href } }: { readonly subject: NonNullable<Sentence["subject"]> }) {
  return href === undefined ? <b>{label}</b> : <Link href={href}>{label}</Link>;
}

function Ago({ atMs, nowMs }: { readonly atMs: number | undefined; readonly nowMs: number }) {
  if (atMs === undefined) return null;
  return (
    <time dateTime={new Date(atMs).toISOString()} title={formatMoment(atMs)}>
      {formatAgo(atMs, nowMs)}
    </time>
  );
}
