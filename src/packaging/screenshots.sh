#!/usr/bin/env bash
# Makes the pictures of the dashboard in the manual: src/manual/images/*.webp. The test of the dashboard in Chromium takes them.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

images=$PWD/src/manual/images
# In bytes.
largest=204800

mkdir -p "$images"
CAXTON_SCREENSHOTS=$images cargo test --test it dashboard::the_page_shows -- --nocapture
for picture in "$images"/*.webp; do
    size=$(stat -c %s "$picture")
    echo "$picture: $size bytes"
    if [ "$size" -gt "$largest" ]; then
        echo "$picture is larger than $largest bytes." >&2
        exit 1
    fi
done
