import { Link } from "../router/Link";
import styles from "./Shell.module.css";
import { useTrail } from "./trail";

/** The way to the page on show, from the start page on. */
export function Crumbs() {
  const crumbs = useTrail();
  return (
    <nav className={styles.crumbs} aria-label="Breadcrumb">
      <Link href="/" className={styles.home} aria-label="TCManager, all projects">
        <img src="/icon.svg" alt="" />
        <span>TCManager</span>
      </Link>
      <ol>
        {crumbs.map((crumb, index) => (
          <li key={crumb.href}>
            {index === crumbs.length - 1 ? (
              <span aria-current="page">{crumb.label}</span>
            ) : (
              <Link href={crumb.href}>{crumb.label}</Link>
            )}
          </li>
        ))}
      </ol>
    </nav>
  );
}
