<?php
// Written for pytest-erp-sandbox. What is secret, and where things are, comes from the environment.
$dolibarr_main_url_root = getenv('ERP_SANDBOX_URL');
$dolibarr_main_document_root = getenv('ERP_SANDBOX_HTDOCS');
$dolibarr_main_url_root_alt = '/custom';
$dolibarr_main_document_root_alt = getenv('ERP_SANDBOX_HTDOCS') . '/custom';
$dolibarr_main_data_root = getenv('ERP_SANDBOX_FOLDER') . '/documents';
$dolibarr_main_db_type = 'pgsql';
$dolibarr_main_db_prefix = 'llx_';
$dolibarr_main_db_host = (string) getenv('PGHOST');
$dolibarr_main_db_port = (string) getenv('PGPORT');
$dolibarr_main_db_name = getenv('PGDATABASE');
$dolibarr_main_db_user = getenv('PGUSER');
$dolibarr_main_db_pass = (string) getenv('PGPASSWORD');
$dolibarr_main_authentication = 'dolibarr';
$dolibarr_main_prod = '1';
$dolibarr_main_instance_unique_id = getenv('ERP_SANDBOX_UNIQUE_ID');
