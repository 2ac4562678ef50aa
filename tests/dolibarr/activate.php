<?php
// Activates modules of an installed Dolibarr and sets constants: php activate.php HTDOCS modA,modB NAME=VALUE …
define('NOREQUIRESOC', '1');
$_SERVER['SCRIPT_FILENAME'] = __FILE__;
[, $htdocs, $modules] = $argv;
require $htdocs . '/master.inc.php';
require_once DOL_DOCUMENT_ROOT . '/core/lib/admin.lib.php';
require_once DOL_DOCUMENT_ROOT . '/user/class/user.class.php';
$user->fetch(1);
method_exists($user, 'loadRights') ? $user->loadRights() : $user->getrights();  // since 20, before
foreach (explode(',', $modules) as $module) {
    $done = activateModule($module, 1);
    if ($done['errors']) {
        fwrite(STDERR, "$module: " . implode('; ', $done['errors']) . "\n");
        exit(1);
    }
}
foreach (array_slice($argv, 3) as $constant) {
    [$name, $value] = explode('=', $constant, 2);
    if (dolibarr_set_const($db, $name, $value, 'chaine', 0, '', 1) < 0) {
        fwrite(STDERR, "$name: " . $db->lasterror() . "\n");
        exit(1);
    }
}
echo "activated\n";
