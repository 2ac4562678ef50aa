<?php
// Dolibarr looks for conf/conf.php in htdocs of this folder first, then beside its own code.
$_SERVER['DOCUMENT_ROOT'] = getenv('ERP_SANDBOX_FOLDER');
