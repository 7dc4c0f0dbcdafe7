// Makes agent.wasm of agent.js. HTTP, which is granted to no agent, is left out.
import { readFile, writeFile } from 'node:fs/promises';
import { componentize } from '@bytecodealliance/componentize-js';

const { component } = await componentize(await readFile('agent.js', 'utf8'), {
  witPath: 'agent.wit',
  worldName: 'agent',
  disableFeatures: ['http', 'fetch-event'],
});
await writeFile('agent.wasm', component);
