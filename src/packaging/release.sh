#!/usr/bin/env bash
# Builds what is released, into target/dist: an archive with its checksum, a Debian package, and a list of all components (SBOM).
#
# Needs cargo-deb and cargo-cyclonedx, which are installed if they are missing.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

for tool in cargo-deb cargo-cyclonedx; do
    command -v "$tool" >/dev/null || cargo install --locked "$tool"
done

cargo build --release --locked --bin caxton
binary=${CARGO_TARGET_DIR:-target}/release/caxton
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)
name=caxton-$version-$(uname -m)-linux
dist=target/dist
rm -rf "$dist"
mkdir -p "$dist/$name/man" "$dist/$name/completions"

install -m 755 "$binary" "$dist/$name/caxton"
"$binary" man "$dist/$name/man"
for shell in bash zsh fish; do
    "$binary" completions "$shell" >"$dist/$name/completions/caxton.$shell"
done
cp README.md CHANGELOG.md LICENSE-APACHE LICENSE-MIT SECURITY.md src/packaging/caxton.service src/packaging/caxton.toml \
    src/packaging/seccomp.json "$dist/$name"

cargo cyclonedx --format json --override-filename caxton-sbom
mv caxton-sbom.json "$dist/$name.cdx.json"
find . -name caxton-sbom.json -not -path './target/*' -delete

cargo deb --no-build --output "$dist/"
# The same commit gives the same archive.
date=$(git log -1 --format=%ct)
tar --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$date" -C "$dist" -cf - "$name" | gzip -n9 >"$dist/$name.tar.gz"
rm -r "${dist:?}/$name"
(cd "$dist" && sha256sum -- * >SHA256SUMS)
ls -l "$dist"
