// Answers every request with an inform of the same content. The names are those of agent.wit, in JavaScript's spelling.
import { reply } from 'caxton:agent/router@1.0.0';

export function start() {
  // A line in the agent's log; `log` of the router has levels and fields.
  console.log(`started at ${new Date().toISOString()}`);
}

// What it throws is a failed attempt: the router tries the message again or gives it up.
export function handle(message) {
  if (message.performative.tag === 'request' && !message.fromRouter) {
    reply({ tag: 'inform' }, message.content);
  }
}

export function stop() {}
