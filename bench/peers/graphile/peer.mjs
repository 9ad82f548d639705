// Graphile Worker: tables, worker, producer. See harness/programs.py.
import { Logger, makeWorkerUtils, run, runMigrations } from 'graphile-worker'
import { noteStart, produce, say } from './common/producing.mjs'

const BATCH = 5000

// What its page on performance measures with; the local queue is larger.
const CONFIGS = {
  best: {
    concurrentJobs: 24,
    maxPoolSize: 25,
    localQueue: { size: 2000 },
    completeJobBatchDelay: 0,
    failJobBatchDelay: 0
  },
  default: {}
}
const connection = { connectionString: process.env.PEER_DSN }
const logger = new Logger(() => () => {})

async function work (config) {
  const runner = await run({
    preset: { worker: { ...connection, ...CONFIGS[config], logger } },
    taskList: {
      bench: async (payload) => {
        if (payload.number !== undefined) noteStart(payload.number)
      }
    }
  })
  say('ready')
  await runner.promise
}

async function openLane () {
  const utils = await makeWorkerUtils({ preset: { worker: { ...connection, maxPoolSize: 2, logger } } })
  return {
    addOne: (number) => utils.addJob('bench', number === null ? {} : { number }),
    addMany: (count) => utils.addJobs(Array.from({ length: count }, () => ({ identifier: 'bench', payload: {} })))
  }
}

const [verb, config] = process.argv.slice(2)
if (verb === 'install') await runMigrations({ preset: { worker: { ...connection, logger } } })
else if (verb === 'work') await work(config)
else await produce(openLane, BATCH)
