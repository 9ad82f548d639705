// The producer's verbs for the peers on Node; harness/programs.py describes them.
import { createInterface } from 'node:readline'

const MS = 1_000_000n

export const say = (text) => process.stdout.write(text + '\n')

/** For a handler: job `number` has started now. */
export const noteStart = (number) => say(`start ${number} ${process.hrtime.bigint()}`)

/**
 * Repeats `action`, which returns how many jobs it enqueued. Measured is what came between the first
 * end of an action after the warm-up and the last one.
 */
async function repeat (action, warmMs, runMs) {
  const begin = process.hrtime.bigint() + BigInt(warmMs) * MS
  const end = begin + BigInt(runMs) * MS
  const found = { total: 0, counted: 0, span: 0n }
  let first = null
  for (;;) {
    const added = await action()
    const now = process.hrtime.bigint()
    found.total += added
    if (first !== null) found.counted += added
    else if (now >= begin) first = now
    if (now >= end && found.counted > 0) {
      found.span = now - first
      return found
    }
  }
}

async function measure (actions, warmMs, runMs) {
  const found = await Promise.all(actions.map((action) => repeat(action, warmMs, runMs)))
  const sum = (name, zero) => found.reduce((all, one) => all + one[name], zero)
  return `done ${sum('total', 0)} ${sum('counted', 0)} ${sum('span', 0n) / BigInt(found.length)}`
}

/**
 * Obeys standard input until it ends. `await openLane()` makes a connection and returns `addOne(number)`,
 * which enqueues a job, with its number as payload unless that is null, and `addMany(count)`, which
 * enqueues many, with the bulk API, in one transaction.
 */
export async function produce (openLane, batch) {
  const lanes = [await openLane()]
  say('ready')
  for await (const line of createInterface({ input: process.stdin })) {
    const [verb, ...words] = line.split(' ')
    const numbers = words.map(Number)
    const { addOne, addMany } = lanes[0]
    if (verb === 'fill') {
      const start = process.hrtime.bigint()
      for (let left = numbers[0]; left > 0; left -= Math.min(left, batch)) await addMany(Math.min(left, batch))
      say(`done ${numbers[0]} ${numbers[0]} ${process.hrtime.bigint() - start}`)
    } else if (verb === 'bulk') {
      say(await measure([() => addMany(batch).then(() => batch)], ...numbers))
    } else if (verb === 'single') {
      while (lanes.length < numbers[0]) lanes.push(await openLane())
      const actions = lanes.slice(0, numbers[0]).map((lane) => () => lane.addOne(null).then(() => 1))
      say(await measure(actions, ...numbers.slice(1)))
    } else if (verb === 'one') {
      await addOne(numbers[0])
      say(`sent ${numbers[0]} ${process.hrtime.bigint()}`)
    } else {
      throw new Error(`unknown verb ${verb}`)
    }
  }
  process.exit(0)
}
