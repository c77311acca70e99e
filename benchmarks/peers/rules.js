'use strict'
// The ten rules of benchmarks/job.py, twice: for json-rules-engine and by hand. Either gives the actions of those that hold.

const { Engine } = require('json-rules-engine')

const FOLLOW = { type: 'content', params: { slot: 'top', message: 'place' } }
const mark = (name) => ({ type: 'set', params: { mark: name } })
const all = (...conditions) => ({ all: conditions.map(([fact, operator, value]) => ({ fact, operator, value })) })
const any = (...conditions) => ({ any: conditions.map(([fact, operator, value]) => ({ fact, operator, value })) })

const RULES = [
  { conditions: all(['n', 'greaterThanInclusive', 0]), event: FOLLOW },
  { conditions: all(['step', 'equal', 'billing'], ['plan', 'equal', 'trial']), event: mark('billing') },
  { conditions: all(['moved', 'greaterThanInclusive', 100000000]), event: mark('power') },
  { conditions: all(['plan', 'equal', 'trial'], ['teamSize', 'greaterThan', 50]), event: mark('upsell') },
  { conditions: all(['role', 'equal', 'admin'], ['step', 'equal', 'settings']), event: mark('admin') },
  { conditions: all(['sessions', 'greaterThan', 20]), event: mark('regular') },
  { conditions: all(['language', 'in', ['de', 'at']], ['step', 'equal', 'welcome']), event: mark('german') },
  { conditions: all(['moved', 'equal', 5], ['plan', 'equal', 'pro']), event: mark('finisher') },
  { conditions: any(['n', 'lessThan', -1], ['step', 'equal', 'lost']), event: mark('lost') },
  { conditions: all(['tags', 'contains', 'champion'], ['sessions', 'greaterThanInclusive', 3]), event: mark('champion') }
]

function byEngine () {
  const engine = new Engine(RULES)
  return async (state, properties) => {
    const { plan, role, language, tags, team_size: teamSize } = state.traits
    const { sessions, counters: { moved } } = state
    const { n, step } = properties
    const { events } = await engine.run({ plan, role, language, tags, teamSize, sessions, moved, n, step })
    return events
  }
}

function byHand (state, properties) {
  const { traits, sessions, counters: { moved } } = state
  const { n, step } = properties
  const actions = []
  if (n >= 0) actions.push(FOLLOW)
  if (step === 'billing' && traits.plan === 'trial') actions.push(mark('billing'))
  if (moved >= 100000000) actions.push(mark('power'))
  if (traits.plan === 'trial' && traits.team_size > 50) actions.push(mark('upsell'))
  if (traits.role === 'admin' && step === 'settings') actions.push(mark('admin'))
  if (sessions > 20) actions.push(mark('regular'))
  if (['de', 'at'].includes(traits.language) && step === 'welcome') actions.push(mark('german'))
  if (moved === 5 && traits.plan === 'pro') actions.push(mark('finisher'))
  if (n < -1 || step === 'lost') actions.push(mark('lost'))
  if (traits.tags.includes('champion') && sessions >= 3) actions.push(mark('champion'))
  return actions
}

module.exports = { byEngine, byHand }
