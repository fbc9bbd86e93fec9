import { formatClock, formatDuration, formatMoment, formatTime } from "../../format/duration";
import { useNow } from "../../live/now";
import { Link } from "../../router/Link";
import { formatRoute } from "../../router/route";
import { Badges } from "../../status/Badges";
import type { Subject } from "./Details";
import styles from "./Details.module.css";

interface DetailFactsProps {
  readonly subject: Subject;
  /** The attempt whose output is shown; 0 for the last. */
  readonly attempt: number;
  readonly onAttempt: (attempt: number) => void;
}

/** State, times and remarks of a test or suite, in one line. */
export function DetailFacts({ subject, attempt, onAttempt }: DetailFactsProps) {
  return (
    <div className={styles.facts}>
      <b>{subject.look.word}</b>
      <Took subject={subject} />
      {subject.startedAtMs > 0 && (
        <span title={formatMoment(subject.startedAtMs)}>began {formatTime(subject.startedAtMs)}</span>
      )}
      {subject.attempt === 1 && <span>attempt 1</span>}
      {subject.attempt > 1 && <Attempts last={subject.attempt} shown={attempt} onShow={onAttempt} />}
      {subject.testCaseId !== "" && (
        <Link href={formatRoute({ page: "case", testCase: subject.testCaseId })}>Test case</Link>
      )}
      <Badges flags={subject.flags} />
    </div>
  );
}

function Took({ subject }: { readonly subject: Subject }) {
  const ticking = subject.live && subject.startedAtMs > 0;
  const now = useNow(500, ticking);
  if (ticking) return <span className="tabular">{formatClock(now - subject.startedAtMs)}</span>;
  return subject.durationMs > 0 ? (
    <span className="tabular">{formatDuration(subject.durationMs)}</span>
  ) : null;
}

interface AttemptsProps {
  readonly last: number;
  readonly shown: number;
  readonly onShow: (attempt: number) => void;
}

/** More attempts than this are not each a button: only the newest are. */
const buttons = 8;

function Attempts({ last, shown, onShow }: AttemptsProps) {
  const first = Math.max(1, last - buttons + 1);
  const attempts = Array.from({ length: last - first + 1 }, (_, index) => first + index);
  return (
    <span>
      attempt{" "}
      <span className={styles.attempts}>
        {attempts.map((each) => (
          <button
            key={each}
            type="button"
            aria-pressed={each === (shown || last)}
            onClick={() => onShow(each)}
          >
            {each}
          </button>
        ))}
      </span>
    </span>
  );
}
