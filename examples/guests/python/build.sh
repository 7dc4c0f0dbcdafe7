#!/bin/sh
# Makes agent.wasm of agent.py. Needs componentize-py (pip install componentize-py).
set -eu
componentize-py --wit-path agent.wit --world agent componentize agent --output agent.wasm
