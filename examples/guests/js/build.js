// Makes agent.wasm of agent.js. Everything that an agent does not need of WASI is left out.
import { readFile, writeFile } from 'node:fs/promises';
import { componentize } from '@bytecodealliance/componentize-js';

const { component } = await componentize(await readFile('agent.js', 'utf8'), {
  witPath: 'agent.wit',
  worldName: 'agent',
  disableFeatures: ['random', 'stdio', 'clocks', 'http', 'fetch-event'],
});
await writeFile('agent.wasm', component);
