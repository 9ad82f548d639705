// pg-boss: tables, worker, producer. See harness/programs.py.
import { PgBoss } from 'pg-boss'
import { noteStart, produce, say } from './common/producing.mjs'

const BATCH = 5000
const QUEUE = 'bench'

const CONFIGS = {
  best: {
    boss: { useListenNotify: true },
    queue: { notify: true, partition: true },
    work: { batchSize: 1000, localConcurrency: 2, burstWhenBatchFull: true }
  },
  default: { boss: {}, queue: {}, work: {} }
}
const config = process.argv[3] ?? 'best'
const { boss: bossOptions, queue, work: workOptions } = CONFIGS[config]

async function start (options) {
  const boss = new PgBoss({ connectionString: process.env.PEER_DSN, ...options })
  boss.on('error', (error) => console.error(error))
  await boss.start()
  return boss
}

async function install () {
  const boss = await start({})
  await boss.createQueue(QUEUE, queue)
  await boss.stop({ graceful: false })
}

async function work () {
  const boss = await start(bossOptions)
  await boss.work(QUEUE, workOptions, async (jobs) => {
    for (const job of jobs) {
      if (job.data?.number !== undefined) noteStart(job.data.number)
    }
  })
  process.on('SIGTERM', async () => {
    await boss.stop({ graceful: true, timeout: 5000 })
    process.exit(0)
  })
  say('ready')
}

async function openLane () {
  const boss = await start({ max: 1, supervise: false, schedule: false })
  return {
    addOne: (number) => boss.send(QUEUE, number === null ? null : { number }),
    addMany: (count) => boss.insert(QUEUE, Array.from({ length: count }, () => ({})))
  }
}

const actions = { install, work, produce: () => produce(openLane, BATCH) }
await actions[process.argv[2]]()
if (process.argv[2] === 'install') process.exit(0)
