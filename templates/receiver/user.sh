# The receiver's user and folders.

step Receiver
if ! getent passwd kraftwerk >/dev/null; then
  useradd --system --user-group --no-create-home --home-dir <%= it.data %> --shell /usr/sbin/nologin kraftwerk
  changed 'user kraftwerk'
fi
folder <%= it.data %> 0700 kraftwerk:kraftwerk
folder /var/log/kraftwerk 0750 kraftwerk:adm
