// Answers every request with an inform of the same content. The names are those of agent.wit, in JavaScript's spelling.
import { reply, log } from 'caxton:agent/router@1.0.0';

export function start() {
  log('info', 'started', []);
}

// What it throws is a failed attempt: the router tries the message again or gives it up.
export function handle(message) {
  if (message.performative.tag === 'request' && !message.fromRouter) {
    reply({ tag: 'inform' }, message.content);
  }
}

export function stop() {}
