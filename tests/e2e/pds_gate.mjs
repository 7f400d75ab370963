// Loaded into the network's process before its own script: lets a test keep the PDS down for as long as it likes.
// A line `hold` on standard input makes the next start of the PDS wait for the line `release`.
import readline from 'node:readline'
import { PDS } from '@atproto/pds'

const say = (event) => process.stderr.write(JSON.stringify({ event }) + '\n')
let gate = null

readline.createInterface({ input: process.stdin }).on('line', (line) => {
  if (line === 'hold' && !gate) {
    gate = {}
    gate.opened = new Promise((open) => { gate.open = open })
    say('holding')
  }
  if (line === 'release' && gate) {
    gate.open()
    gate = null
  }
})

const create = PDS.create
PDS.create = async function (...settings) {
  if (gate) {
    say('pds-stopped')
    await gate.opened
  }
  return create.apply(PDS, settings)
}
