# A package with a dependency, a script that makes a user, a configuration file, and a program in place of the system's.
set -euo pipefail
mkdir -p p/DEBIAN p/usr/bin p/etc p/usr/share/local-package
cat >p/DEBIAN/control <<'C'
Package: local-package
Version: 1.0
Architecture: all
Maintainer: nobody <nobody@localhost>
Depends: bash (>= 3), adduser
Description: made for a test
C
cat >p/DEBIAN/postinst <<'S'
#!/bin/sh
set -e
useradd --system --no-create-home local-package
echo configured >/var/lib/local-package
chown local-package /var/lib/local-package
S
chmod 755 p/DEBIAN/postinst
echo /etc/local-package.conf >p/DEBIAN/conffiles
echo setting >p/etc/local-package.conf
printf '#!/bin/sh\necho replaced\n' >p/usr/bin/tac
chmod 755 p/usr/bin/tac
dpkg-deb --build p package.deb >/dev/null
dpkg -i package.deb >log 2>&1 || { cat log; exit 1; }
[[ $(dpkg-query --show --showformat='${db:Status-Status}' local-package) == installed ]]
[[ $(tac </dev/null) == replaced ]]
[[ $(stat -c %U /var/lib/local-package) == local-package ]]
[[ $(su local-package -s /bin/sh -c 'id -un') == local-package ]]
dpkg --purge local-package >/dev/null 2>&1
[[ ! -e /etc/local-package.conf ]]
mkdir /build
echo x >/build/file
