# Runs when all else is there, each time; this one does nothing. Put your own into node/post_setup.sh of a configured
# folder of templates (or of its nodes/HOSTNAME/): more packages, monitoring, backups. It is read by bash as root, with
# step, changed, note, fail, apt_get, put, folder, link and unit of node/functions.sh. It may run again at any time.
