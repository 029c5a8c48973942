#!/usr/bin/env bash
# Debian packages that `make test-slow` uses; without one, its tests skip and say so.
# SLURM and munge: the slurm profile on a real SLURM on loopback. WSClean: the other imaging engine.
# Montage: the other mosaics. AOFlagger: its command line beside its Python binding.
set -euo pipefail
packages=(aoflagger montage munge slurm-wlm wsclean)

if ! command -v apt-get >/dev/null; then
  echo "no apt-get here: install ${packages[*]} by other means" >&2
  exit 1
fi
if [ "$(id -u)" -ne 0 ]; then
  echo "not root: run as root, apt-get install --yes ${packages[*]}" >&2
  exit 1
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update --quiet
apt-get install --yes --quiet --no-install-recommends "${packages[@]}" </dev/null
