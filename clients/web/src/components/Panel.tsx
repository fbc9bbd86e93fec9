import { type ReactNode, useId } from "react";
import { cx } from "./cx";
import styles from "./Panel.module.css";

interface PanelProps {
  readonly title: string;
  /** Beside the title, quietly. */
  readonly count?: ReactNode;
  /** At the other end of the head. */
  readonly aside?: ReactNode;
  readonly className?: string | undefined;
  readonly children: ReactNode;
}

/** A titled surface. */
export function Panel({ title, count, aside, className, children }: PanelProps) {
  const id = useId();
  return (
    <section className={cx(styles.panel, className)} aria-labelledby={id}>
      <header className={styles.head}>
        <h2 id={id}>{title}</h2>
        {count !== undefined && <span className={styles.count}>{count}</span>}
        {aside !== undefined && <div className={styles.aside}>{aside}</div>}
      </header>
      {children}
    </section>
  );
}
