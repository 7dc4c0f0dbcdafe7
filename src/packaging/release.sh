#!/usr/bin/env bash
# Builds what is released, into target/dist: an archive with its checksum, a Debian package, and a list of all components (SBOM).
#
# Needs cargo-deb and cargo-cyclonedx, which are installed if they are missing.
set -euo pipefail
if [ $# -gt 0 ]; then
    sed -n '2,4s/^# //p' "$0"
    exit
fi
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

# The package takes them from a path without a version.
rm -rf target/deb
mkdir -p target/deb
cp -r "$dist/$name/man" "$dist/$name/completions" target/deb/
cargo deb --no-build --output "$dist/"
contents=$(dpkg-deb --contents "$dist"/*.deb)
for file in usr/bin/caxton etc/caxton/caxton.toml usr/share/man/man1/caxton.1.gz usr/share/bash-completion/completions/caxton \
    usr/share/zsh/vendor-completions/_caxton usr/share/fish/vendor_completions.d/caxton.fish usr/lib/systemd/system/caxton.service; do
    grep -q " \./$file\$" <<<"$contents" || {
        echo "The package lacks $file." >&2
        exit 1
    }
done
# The same commit gives the same archive.
date=$(git log -1 --format=%ct)
tar --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$date" -C "$dist" -cf - "$name" | gzip -n9 >"$dist/$name.tar.gz"
rm -r "${dist:?}/$name"
(cd "$dist" && sha256sum -- * >SHA256SUMS)
ls -l "$dist"
