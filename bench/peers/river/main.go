// River: tables, worker, producer. See harness/programs.py.
package main

import (
	"bufio"
	"context"
	"fmt"
	"log"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"
	"golang.org/x/sys/unix"
)

const batch = 5000

type client = river.Client[pgx.Tx]

// Args of a job: a number when its start is to be told.
type Args struct {
	Number *int64 `json:"number,omitempty"`
}

// Kind names the jobs.
func (Args) Kind() string { return "bench" }

type worker struct {
	river.WorkerDefaults[Args]
}

func (worker) Work(_ context.Context, job *river.Job[Args]) error {
	if job.Args.Number != nil {
		fmt.Printf("start %d %d\n", *job.Args.Number, monotonic())
	}
	return nil
}

// Go's own monotonic clock does not show its reading, and other processes have to compare it.
func monotonic() int64 {
	var now unix.Timespec
	must(unix.ClockGettime(unix.CLOCK_MONOTONIC, &now))
	return now.Nano()
}

func must(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func open(connections int32) (*pgxpool.Pool, *riverpgxv5.Driver) {
	config, err := pgxpool.ParseConfig("")
	must(err)
	if connections > 0 {
		config.MaxConns = connections
	}
	pool, err := pgxpool.NewWithConfig(context.Background(), config)
	must(err)
	return pool, riverpgxv5.New(pool)
}

func install() {
	_, driver := open(0)
	migrator, err := rivermigrate.New(driver, nil)
	must(err)
	_, err = migrator.Migrate(context.Background(), rivermigrate.DirectionUp, nil)
	must(err)
}

func work(best bool) {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	workers := river.NewWorkers()
	river.AddWorker(workers, worker{})
	config := &river.Config{
		Queues:  map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: 100}},
		Workers: workers,
	}
	connections := int32(0)
	if best {
		config.Queues[river.QueueDefault] = river.QueueConfig{MaxWorkers: 2000}
		config.FetchCooldown = time.Millisecond
		config.FetchPollInterval = 50 * time.Millisecond
		connections = 20
	}
	_, driver := open(connections)
	river, err := river.NewClient(driver, config)
	must(err)
	must(river.Start(context.Background()))
	fmt.Println("ready")
	<-ctx.Done()
	last, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	_ = river.StopAndCancel(last)
}

func addOne(c *client, number *int64) {
	_, err := c.Insert(context.Background(), Args{Number: number}, nil)
	must(err)
}

func addMany(c *client, count int64) int64 {
	params := make([]river.InsertManyParams, count)
	for i := range params {
		params[i] = river.InsertManyParams{Args: Args{}}
	}
	_, err := c.InsertManyFast(context.Background(), params)
	must(err)
	return count
}

// Repeats the action; measured is what came between its first end after the warm-up and its last.
func repeat(action func() int64, warmMs, runMs int64) (total, counted, span int64) {
	begin := monotonic() + warmMs*1e6
	end := begin + runMs*1e6
	first := int64(0)
	for {
		added := action()
		now := monotonic()
		total += added
		if first != 0 {
			counted += added
		} else if now >= begin {
			first = now
		}
		if now >= end && counted > 0 {
			return total, counted, now - first
		}
	}
}

func measure(action func() int64, lanes, warmMs, runMs int64) {
	var group sync.WaitGroup
	var lock sync.Mutex
	var total, counted, span int64
	for range lanes {
		group.Go(func() {
			t, c, s := repeat(action, warmMs, runMs)
			lock.Lock()
			defer lock.Unlock()
			total, counted, span = total+t, counted+c, span+s
		})
	}
	group.Wait()
	fmt.Printf("done %d %d %d\n", total, counted, span/lanes)
}

// An insert-only client, of at most 8 connections: a lane of `single` takes one each. It notifies no
// more often than its own cooldown lets it.
func newProducer(best bool) *client {
	_, driver := open(8)
	config := &river.Config{}
	if best {
		config.FetchCooldown = time.Millisecond
		config.FetchPollInterval = 50 * time.Millisecond
	}
	c, err := river.NewClient(driver, config)
	must(err)
	return c
}

func produce(best bool) {
	c := newProducer(best)
	fmt.Println("ready")
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		var verb string
		var a, b, d int64
		_, _ = fmt.Sscan(in.Text(), &verb, &a, &b, &d)
		switch verb {
		case "fill":
			start := monotonic()
			for left := a; left > 0; left -= min(left, batch) {
				addMany(c, min(left, batch))
			}
			fmt.Printf("done %d %d %d\n", a, a, monotonic()-start)
		case "bulk":
			measure(func() int64 { return addMany(c, batch) }, 1, a, b)
		case "single":
			measure(func() int64 { addOne(c, nil); return 1 }, a, b, d)
		case "one":
			addOne(c, &a)
			fmt.Printf("sent %d %d\n", a, monotonic())
		default:
			log.Fatalf("unknown verb %s", verb)
		}
	}
}

func main() {
	switch os.Args[1] {
	case "install":
		install()
	case "work":
		work(os.Args[2] == "best")
	default:
		produce(os.Args[2] == "best")
	}
}
