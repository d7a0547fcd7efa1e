# The uploads as a tree: linked, where the file system knows no reflinks, so that gigabytes take seconds.
<%~ include('services/functions.sh', it) %>
<%~ include('services/folders.sh', it) %>
copy_tree take "$site/uploads" "$DUMP_TARGET" <%= it.options.dump %>

