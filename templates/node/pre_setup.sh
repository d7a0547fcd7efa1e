# Runs before anything is installed, each time; this one does nothing. Put your own into node/pre_setup.sh of a
# configured folder of templates (or of its nodes/HOSTNAME/): package sources, a proxy, a firewall. It is read by bash as
# root, with step, changed, note, fail, apt_get, put, folder, link and unit of node/functions.sh. It may run again at any time.
