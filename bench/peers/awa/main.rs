// Awa: tables, worker, producer. See harness/programs.py.
use awa::model::insert::params;
use awa::{Client, InsertOpts, InsertParams, JobArgs, JobResult, QueueConfig};
use awa::{QueueStorage, QueueStorageConfig};
use serde::{Deserialize, Serialize};
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use std::io::BufRead;
use std::time::Duration;

const BATCH: i64 = 5000;

/// A number when the job's start is to be told.
#[derive(Serialize, Deserialize, JobArgs)]
struct Bench {
    number: Option<i64>,
}

/// The clock that all processes of a machine share.
fn monotonic() -> i64 {
    let mut now = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut now) };
    now.tv_sec * 1_000_000_000 + now.tv_nsec
}

/// The connection is that of the environment: PGHOST, PGPORT, PGUSER, PGDATABASE.
async fn open(connections: u32) -> PgPool {
    PgPoolOptions::new()
        .max_connections(connections)
        .connect_with(PgConnectOptions::new())
        .await
        .expect("no connection")
}

async fn install() {
    let pool = open(2).await;
    awa::migrations::run(&pool).await.expect("migrations");
    // The first worker of a new installation does this; jobs that came before it would stay in the
    // storage of older releases.
    let fresh: bool = sqlx::query_scalar("SELECT awa.storage_auto_finalize_if_fresh('awa')")
        .fetch_one(&pool)
        .await
        .expect("queue storage");
    assert!(fresh, "not on the queue storage");
}

/// As its own benchmark of throughput has it: no deadline, so that claims need no row of their own.
fn best() -> QueueConfig {
    QueueConfig {
        max_workers: 100,
        poll_interval: Duration::from_millis(50),
        deadline_duration: Duration::ZERO,
        ..QueueConfig::default()
    }
}

async fn work(config: &str) {
    let (queue, connections) = match config {
        "best" => (best(), 20),
        _ => (QueueConfig::default(), 10),
    };
    let client = Client::builder(open(connections).await)
        .queue("default", queue)
        .register::<Bench, _, _>(|args, _ctx| async move {
            if let Some(number) = args.number {
                println!("start {} {}", number, monotonic());
            }
            Ok(JobResult::Completed)
        })
        .build()
        .expect("build");
    client.start().await.expect("start");
    println!("ready");
    tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())
        .expect("signal")
        .recv()
        .await;
    client.shutdown(Duration::from_secs(5)).await;
}

async fn add_one(pool: &PgPool, number: Option<i64>) -> i64 {
    awa::insert_with(pool, &Bench { number }, InsertOpts::default())
        .await
        .expect("insert");
    1
}

async fn add_many(pool: &PgPool, count: i64) -> i64 {
    let jobs: Vec<InsertParams> = (0..count)
        .map(|_| params(&Bench { number: None }).expect("params"))
        .collect();
    // Straight into the queue storage; insert_many_copy goes through the view for older releases.
    QueueStorage::new(QueueStorageConfig::default())
        .expect("storage")
        .enqueue_params_copy(pool, &jobs)
        .await
        .expect("copy");
    count
}

/// Repeats an action; measured is what came between its first end after the warm-up and its last.
async fn repeat(pool: PgPool, many: bool, warm_ms: i64, run_ms: i64) -> (i64, i64, i64) {
    let begin = monotonic() + warm_ms * 1_000_000;
    let end = begin + run_ms * 1_000_000;
    let (mut total, mut counted, mut first) = (0, 0, 0);
    loop {
        let added = if many {
            add_many(&pool, BATCH).await
        } else {
            add_one(&pool, None).await
        };
        let now = monotonic();
        total += added;
        if first != 0 {
            counted += added;
        } else if now >= begin {
            first = now;
        }
        if now >= end && counted > 0 {
            return (total, counted, now - first);
        }
    }
}

async fn measure(pool: &PgPool, many: bool, lanes: i64, warm_ms: i64, run_ms: i64) {
    let tasks: Vec<_> = (0..lanes)
        .map(|_| tokio::spawn(repeat(pool.clone(), many, warm_ms, run_ms)))
        .collect();
    let (mut total, mut counted, mut span) = (0, 0, 0);
    for task in tasks {
        let found = task.await.expect("task");
        total += found.0;
        counted += found.1;
        span += found.2;
    }
    println!("done {} {} {}", total, counted, span / lanes);
}

async fn fill(pool: &PgPool, count: i64) {
    let start = monotonic();
    let mut left = count;
    while left > 0 {
        left -= add_many(pool, left.min(BATCH)).await;
    }
    println!("done {} {} {}", count, count, monotonic() - start);
}

async fn produce() {
    let pool = open(8).await;
    println!("ready");
    for line in std::io::stdin().lock().lines() {
        let line = line.expect("line");
        let mut words = line.split(' ');
        let verb = words.next().unwrap_or_default();
        let n: Vec<i64> = words.map(|word| word.parse().expect("number")).collect();
        match verb {
            "fill" => fill(&pool, n[0]).await,
            "bulk" => measure(&pool, true, 1, n[0], n[1]).await,
            "single" => measure(&pool, false, n[0], n[1], n[2]).await,
            "one" => {
                add_one(&pool, Some(n[0])).await;
                println!("sent {} {}", n[0], monotonic());
            }
            _ => panic!("unknown verb {verb}"),
        }
    }
}

#[tokio::main]
async fn main() {
    let words: Vec<String> = std::env::args().collect();
    match words[1].as_str() {
        "install" => install().await,
        "work" => work(&words[2]).await,
        _ => produce().await,
    }
}
