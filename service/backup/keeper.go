package backup

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tcmanager/tcmanager/service/disk"
)

// retryAfter is when a backup that failed is tried again, if the next one isn't due
// before. A disk that is full is noticed by people within that time or not at all.
const retryAfter = 10 * time.Minute

// lockName is of the file that keeps a second keeper out of a folder.
const lockName = ".tcmanager-backups.lock"

// Names of backups hold when they were taken: tcmanager-20261127T162149Z.backup.
const (
	namePrefix = "tcmanager-"
	nameTime   = "20060102T150405Z"
	nameSuffix = ".backup"
)

// Names that the keeper gives, and those of what it was writing when it was killed.
var (
	ownName    = regexp.MustCompile(`^tcmanager-(\d{8}T\d{6}Z)\.backup$`)
	ownPartial = regexp.MustCompile(`^\.tcmanager-\d{8}T\d{6}Z\.backup` + regexp.QuoteMeta(partial))
)

// Config says where backups are kept, how often they are taken and how many stay.
type Config struct {
	Dir        string
	Every      time.Duration
	Keep       int                   // at least 1
	Logger     *slog.Logger          // nil for slog.Default
	Registerer prometheus.Registerer // nil for no metrics
}

// Keeper takes backups on a schedule and removes the oldest.
type Keeper struct {
	store   Store
	cfg     Config
	results *prometheus.CounterVec
	last    prometheus.Gauge
}

// NewKeeper returns a keeper, which takes nothing until it runs. It makes the folder
// if it is missing, and refuses one that it can't write.
func NewKeeper(st Store, cfg Config) (*Keeper, error) {
	if cfg.Keep < 1 || cfg.Every <= 0 {
		return nil, fmt.Errorf("keep %d backups, one every %s: both must be more than none", cfg.Keep, cfg.Every)
	}
	cfg.Logger = cmp.Or(cfg.Logger, slog.Default())
	k := &Keeper{
		store: st, cfg: cfg,
		results: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: "tcmanager", Name: "backups_total", Help: "Scheduled backups, by how they ended.",
		}, []string{"result"}),
		last: prometheus.NewGauge(prometheus.GaugeOpts{
			Namespace: "tcmanager", Name: "backup_last_success_timestamp_seconds", Help: "When the newest good backup was taken; 0 if there is none.",
		}),
	}
	for _, result := range []string{"ok", "failed"} {
		k.results.WithLabelValues(result) // so that the first failure is a change
	}
	if cfg.Registerer != nil {
		if err := errors.Join(cfg.Registerer.Register(k.results), cfg.Registerer.Register(k.last)); err != nil {
			return nil, err
		}
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the folder for backups: %w", err)
	}
	lock, err := k.lock()
	if err != nil {
		return nil, err
	}
	return k, lock.Close()
}

func (k *Keeper) lock() (*os.File, error) {
	lock, err := disk.Lock(filepath.Join(k.cfg.Dir, lockName))
	if held := (*disk.HeldError)(nil); errors.As(err, &held) {
		return nil, fmt.Errorf("the folder for backups %s is used by %s; give each server its own", k.cfg.Dir, held.Holder("another server"))
	}
	if err != nil {
		return nil, fmt.Errorf("the folder for backups: %w", err)
	}
	return lock, nil
}

// Run takes a backup whenever the newest one is older than the interval, until ctx
// ends. That is at once where there is none, and not put off by restarts.
func (k *Keeper) Run(ctx context.Context) (err error) {
	lock, err := k.lock()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	wait, err := k.first()
	if err != nil {
		return err
	}
	for sleep(ctx, wait) {
		wait = k.round(ctx)
	}
	return nil
}

// sleep waits, and reports whether ctx has not ended meanwhile.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// first returns how long it is until the first backup is due. One of the future,
// where the clock has been set back, counts as of now.
func (k *Keeper) first() (time.Duration, error) {
	list, err := k.list()
	if err != nil || len(list) == 0 {
		return 0, err
	}
	k.last.Set(float64(list[0].at.Unix()))
	return min(max(0, time.Until(list[0].at.Add(k.cfg.Every))), k.cfg.Every), nil
}

// round takes a backup, and once it is good, removes those beyond the number that
// is kept. It returns how long it is until the next one.
func (k *Keeper) round(ctx context.Context) time.Duration {
	began := time.Now()
	name := namePrefix + began.UTC().Format(nameTime) + nameSuffix
	path := filepath.Join(k.cfg.Dir, name)
	k.sweep()
	b, err := Take(ctx, k.store, path, Options{})
	if ctx.Err() != nil && err != nil {
		return 0 // the server stops; the backup is due when it is back
	}
	if err != nil {
		k.results.WithLabelValues("failed").Inc()
		next := min(retryAfter, k.cfg.Every)
		k.cfg.Logger.ErrorContext(ctx, "the backup failed; the older ones are kept, and it will be tried again", "error", err, "again_in", next.String())
		return next
	}
	k.results.WithLabelValues("ok").Inc()
	k.last.Set(float64(b.TakenAt.Unix()))
	k.cfg.Logger.InfoContext(ctx, "a backup was taken and checked", "file", path, "bytes", b.Bytes, "took", time.Since(began).Round(time.Millisecond).String())
	if err := k.rotate(name); err != nil {
		k.cfg.Logger.ErrorContext(ctx, "old backups could not be removed", "error", err)
	}
	return max(0, k.cfg.Every-time.Since(began))
}

// kept is a backup that a keeper has named.
type kept struct {
	name string
	at   time.Time
}

// list returns the backups of the folder, the newest first.
func (k *Keeper) list() ([]kept, error) {
	entries, err := os.ReadDir(k.cfg.Dir)
	if err != nil {
		return nil, fmt.Errorf("look for backups: %w", err)
	}
	var list []kept
	for _, e := range entries {
		m := ownName.FindStringSubmatch(e.Name())
		if m == nil || !e.Type().IsRegular() {
			continue
		}
		if at, err := time.Parse(nameTime, m[1]); err == nil {
			list = append(list, kept{e.Name(), at})
		}
	}
	slices.SortFunc(list, func(a, b kept) int { return b.at.Compare(a.at) })
	return list, nil
}

// rotate removes the oldest backups beyond the number that is kept. The one that
// was just taken stays, whatever the clock says: it is known to be good.
func (k *Keeper) rotate(good string) error {
	list, err := k.list()
	if err != nil {
		return err
	}
	list = slices.DeleteFunc(list, func(b kept) bool { return b.name == good })
	var errs []error
	for _, old := range list[min(len(list), k.cfg.Keep-1):] {
		path := filepath.Join(k.cfg.Dir, old.name)
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
			continue
		}
		k.cfg.Logger.Info("an old backup was removed", "file", path, "kept", k.cfg.Keep)
	}
	return errors.Join(errs...)
}

// sweep removes what a keeper was writing when it was killed.
func (k *Keeper) sweep() {
	entries, err := os.ReadDir(k.cfg.Dir)
	if err != nil {
		return // the backup that follows says why
	}
	for _, e := range entries {
		if ownPartial.MatchString(e.Name()) && e.Type().IsRegular() {
			_ = os.Remove(filepath.Join(k.cfg.Dir, e.Name())) // what stays is tried again next time
		}
	}
}
