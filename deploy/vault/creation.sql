CREATE ROLE "{{name}}" LOGIN PASSWORD '{{password}}' VALID UNTIL '{{expiration}}';
GRANT erp_dump TO "{{name}}";
ALTER ROLE "{{name}}" SET role TO 'erp_dump';
ALTER ROLE "{{name}}" SET default_transaction_read_only TO on;
